"""Packaging; the metadata lives here because the project's layout was fixed so."""

from setuptools import find_packages, setup

setup(
    name="marconi",
    version="0.1.0",
    description="HTTP messaging gateway: queues, messages and claims in front of AMQP brokers",
    long_description=open("README.md", encoding="utf-8").read(),
    long_description_content_type="text/markdown",
    license="Apache-2.0",
    python_requires=">=3.11",
    packages=find_packages(include=["gateway*", "bridges*", "storage*"]),
    install_requires=[
        "bcrypt>=4.0",
        "cachetools>=5.3",
        "cryptography>=42",
        "flask>=3.0",
        "kombu>=5.3",
        "orjson>=3.9",
        "oslo.config>=9.0",
        "oslo.log>=5.0",
        "prometheus-client>=0.20",
        "pymongo>=4.7",
        "waitress>=3.0",
    ],
    entry_points={
        "console_scripts": ["marconi = gateway.cli:main"],
        "oslo.config.opts": ["marconi = gateway.conf:list_opts"],
        "marconi.bridges": [
            "loopback = bridges.loopback:LoopbackBridge",
            "amqp = bridges.amqp:AMQPBridge",
            "amqps = bridges.amqp:AMQPBridge",
        ],
        "marconi.side_stores": [
            "sqlite = storage.sqlite:SQLiteStore",
            "mongodb = storage.mongodb:MongoDBStore",
            "mongodb+srv = storage.mongodb:MongoDBStore",
        ],
    },
)
