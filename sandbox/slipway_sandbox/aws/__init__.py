"""A local AWS: moto's server, with a SageMaker whose endpoints live and an ECR that is a real registry behind it."""
