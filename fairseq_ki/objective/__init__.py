"""The inheritance objective as pure functions of tensors; depends on torch alone."""
