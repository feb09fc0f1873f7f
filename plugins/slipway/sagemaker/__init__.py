"""What a SageMaker deploy is made of: names, options, requests, the model's archive. No client in here."""
