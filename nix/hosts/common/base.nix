# What all examples share, and a host of yours will have of its own.
{
  system.stateVersion = "26.05";

  # The image is as small as it can be; the disk need not be.
  sane.image.growNixPartition = true;

  services.openssh.enable = true;
  # For a first login at the console. Set a key or a hash of yours instead.
  users.users.root.initialPassword = "nixos";
}
