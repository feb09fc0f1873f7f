"""Local stand-ins for clouds: real wire protocols, real predictions. Development equipment: Slipway never imports it."""
