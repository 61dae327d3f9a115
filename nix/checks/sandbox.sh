# The builder of sandbox.nix.

wrong() {
  echo "the sandbox is not as Nix makes it: $*" >&2
  exit 1
}
is_refused() { ! "$@" 2> /dev/null || wrong "$* succeeds"; }

# What a test may not take for granted is not there.
[ "$(cd /etc && echo *)" = "group hosts passwd" ] || wrong "/etc has $(cd /etc && echo *)"
[ "$(cd /bin && echo *)" = sh ] || wrong "/bin has $(cd /bin && echo *)"
for path in /usr /sbin /home /root /var /run "$HOME"; do
  [ ! -e "$path" ] || wrong "there is $path"
done
[ "$HOME" = /homeless-shelter ] || wrong "HOME is $HOME"
[ "$(id -u)" != 0 ] || wrong "this is root"
[ "$(nproc)" = 1 ] || wrong "there are $(nproc) processors"
[ "$(sed -n 's/:.*//p' /proc/net/dev | tr -d ' \n')" = lo ] || wrong "there is a network"
: > file
is_refused chmod u+s file
is_refused chmod g+s file
is_refused touch "$source/file"
is_refused touch "$target/file"

# Debian's programs look for character sets and locales in /usr.
GCONV_PATH=$(echo /lib/*/gconv)
LOCPATH=/lib/locale
export GCONV_PATH LOCPATH

# Those that look for parts of their own there would not work: the tests find none of them.
mkdir programs
ln -sf /host/sbin/* /host/bin/* programs/
for program in $absent; do
  rm -f "programs/$program"
done
export PATH=$PWD/programs

cd "$source"
for test in $tests; do
  echo "Running $(basename "$test")"
  "$test" --color=never
done
touch "$out"
