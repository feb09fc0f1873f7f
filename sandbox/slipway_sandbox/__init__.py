"""Local stand-ins for clouds: real wire protocols and real predictions, for development; Slipway never imports it."""
