# A PC with UEFI that has files of its own in the image: a host key and a Wi-Fi profile.
#
# DO NOT COPY THE KEY. It is test 1 of RFC 8032, and EVERYBODY KNOWS IT: whoever wants to can pass for a
# host that has it. And whatever stands here is in the Nix store, which everybody can read. A key and a
# password of yours belong into a directory beside the configuration, which is laid over the image when
# that is made:
#
#   mkdir -p secrets/etc/ssh && ssh-keygen -t ed25519 -N "" -f secrets/etc/ssh/ssh_host_ed25519_key
#   nix build .#imgs.<host>.spec -o spec.json
#   sane-image build spec.json --extra-files secrets --out result
#
# docs/how-to/own-files.md has more of this.
{
  imports = [ ./common/base.nix ];

  nixpkgs.hostPlatform = "x86_64-linux";
  boot.loader.systemd-boot.enable = true;
  networking.networkmanager.enable = true;

  fileSystems."/boot" = {
    device = "/dev/disk/by-uuid/7E61-30AC";
    fsType = "vfat";
    options = [ "umask=0077" ];
  };
  fileSystems."/" = {
    device = "/dev/disk/by-uuid/b0a2f7d8-91c4-4e35-8d6b-2c7e90f1a546";
    fsType = "ext4";
  };

  warnings = [
    "everybody knows the host key of this example, which is test 1 of RFC 8032; use a key of your own"
  ];

  sane.image.files = {
    "/etc/ssh/ssh_host_ed25519_key" = {
      mode = "0600";
      text = ''
        -----BEGIN OPENSSH PRIVATE KEY-----
        b3BlbnNzaC1rZXktdjEAAAAABG5vbmUAAAAEbm9uZQAAAAAAAAABAAAAMwAAAAtzc2gtZW
        QyNTUxOQAAACDXWpgBgrEKt9VL/tPJZAc6DuFy89qmIyWvAhpo9wdRGgAAALAAAIAyAACA
        MgAAAAtzc2gtZWQyNTUxOQAAACDXWpgBgrEKt9VL/tPJZAc6DuFy89qmIyWvAhpo9wdRGg
        AAAECdYbGd7/1aYLqESvSS7CzEREnFaXsyaRlwO6wDHK5/YNdamAGCsQq31Uv+08lkBzoO
        4XLz2qYjJa8CGmj3B1EaAAAAJktOT1dOIFRPIEVWRVJZQk9EWTogdGVzdCAxIG9mIFJGQy
        A4MDMyAQIDBAUGBw==
        -----END OPENSSH PRIVATE KEY-----
      '';
    };
    "/etc/ssh/ssh_host_ed25519_key.pub".text = ''
      ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAINdamAGCsQq31Uv+08lkBzoO4XLz2qYjJa8CGmj3B1Ea
    '';

    # NetworkManager leaves out a profile that others than root may read.
    "/etc/NetworkManager/system-connections/home.nmconnection" = {
      mode = "0600";
      text = ''
        [connection]
        id=home
        type=wifi

        [wifi]
        ssid=home

        [wifi-security]
        key-mgmt=wpa-psk
        psk=not-a-secret

        [ipv4]
        method=auto

        [ipv6]
        method=auto
      '';
    };
  };
}
