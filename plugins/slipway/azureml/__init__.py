"""Azure Machine Learning: the cloud, its credentials, its REST API, and what of Slipway becomes what of Azure."""
