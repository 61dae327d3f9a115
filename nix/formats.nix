# The formats of images, as `sane-image build --format` knows them. Only data.
{
  # What comes after the image's name in the name of its file.
  extensions = {
    raw = "img";
    zst = "img.zst";
    qcow2 = "qcow2";
    "qcow2+zstd" = "qcow2";
    vmdk = "vmdk";
    vhd = "vhd";
    vhdx = "vhdx";
    gce = "tar.gz";
  };

  # Those for which there is a choice of how hard to compress.
  withLevel = [
    "zst"
    "qcow2+zstd"
  ];

  # Those that have levels of their own, which a level for others in the same build would change.
  withOtherLevels = [
    "vmdk"
    "gce"
  ];

  # Those that a block map is for.
  withBlockMap = [
    "raw"
    "zst"
  ];

  # As a list, none twice. One format is a list of one.
  toList =
    format:
    builtins.foldl' (seen: next: if builtins.elem next seen then seen else seen ++ [ next ]) [ ] (
      if builtins.isList format then format else [ format ]
    );
}
