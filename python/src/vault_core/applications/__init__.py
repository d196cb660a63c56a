"""Replacements for the functions of applications that keep secrets in formats of their own.

They have the names and give the texts of the application's own, and fail where those gave something
else than the secret. Each module loads the vault that VAULT_CORE_CONFIG names when it is first used;
for another one, make an object of the module's class.
"""
