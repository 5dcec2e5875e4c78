"""Object storage: S3, Google Cloud Storage, Azure. The only room that imports obstore and boto3."""
