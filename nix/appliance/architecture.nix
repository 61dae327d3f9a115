# What the Discoverable Partitions Specification calls a platform's architecture, by what UEFI calls it; null for others.
# Only data.
hostPlatform:
{
  aa64 = "arm64";
  arm = "arm";
  ia32 = "x86";
  loongarch64 = "loongarch64";
  riscv32 = "riscv32";
  riscv64 = "riscv64";
  x64 = "x86-64";
}
.${hostPlatform.efiArch} or null
