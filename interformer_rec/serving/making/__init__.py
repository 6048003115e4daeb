"""How an exported model is made: what it is compared with, and what has changed since another one."""
