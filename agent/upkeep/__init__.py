"""The agent on its machine: whether it is fit, its systemd unit, its end."""
