#!/bin/sh
# Installs what building and testing need and this machine lacks, and says what and why.
# Silent when nothing is missing. Root is needed only when something is.
#
#   deploy/setup.sh [--check] [build|test|vm|vmlinux]...  (default: build test)
#
# --check installs nothing: it says what is missing, and fails.
set -eu

# For what | how it is found | Debian's package | Fedora's package | why
NEEDS='
build|command clang|clang|clang|compiles the BPF programs
build|command cc|gcc|gcc|compiles libbpf, links
build|header stdio.h|libc6-dev|glibc-devel|C library headers, for libbpf
build|header linux/types.h|linux-libc-dev|kernel-headers|kernel headers, for libbpf
build|command make|make|make|builds libbpf
build|command pkg-config|pkg-config|pkgconf-pkg-config|finds libelf and zlib
build|header libelf.h|libelf-dev|elfutils-libelf-devel|libbpf reads object files with it
build|header zlib.h|zlib1g-dev|zlib-devel|libelf decompresses sections with it
test|command ip|iproute2|iproute|tests make network namespaces
test|command curl|curl|curl|tests ask servers for names
test|command openssl|openssl|openssl|tests serve and speak TLS
test|command python3|python3|python3|tests act as servers and interpreters; counts results
test|command busybox|busybox-static|busybox|tests run it in containers
test|command runc|runc|runc|tests run containers
test|command dockerd|docker.io|moby-engine|tests run containers by docker
test|command podman|podman|podman|tests run containers by podman
test|command mkfs.btrfs|btrfs-progs|btrfs-progs|tests share blocks between files
vm|command qemu-system-x86_64|qemu-system-x86|qemu-system-x86-core|boots other kernels for tests
vm|file /usr/share/keyrings/debian-archive-keyring.gpg|debian-archive-keyring|debian-keyring|verifies those kernels
vm|command ldd|libc-bin|glibc-common|finds what programs of the initramfs are linked to
vm|command xz|xz-utils|xz|unpacks modules of kernels
vmlinux|command bpftool|bpftool|bpftool|writes the kernel types of this machine as C
'

say() { echo "setup: $*" >&2; }

have() {
	case $1 in
	command) command -v "$2" >/dev/null 2>&1 || [ -x "/usr/sbin/$2" ] ;;
	file) [ -e "$2" ] ;;
	header)
		# Ask the compiler, who knows where headers are; before there is one, look.
		if command -v cc >/dev/null 2>&1; then
			echo "#include <$2>" | cc -E -x c - >/dev/null 2>&1
		else
			[ -e "/usr/include/$2" ]
		fi
		;;
	esac
}

as_root() {
	if [ "$(id -u)" = 0 ]; then
		"$@"
	else
		sudo "$@"
	fi
}

apt_update() { as_root apt-get -qq -o DPkg::Lock::Timeout=300 update; }

apt_install() {
	as_root env DEBIAN_FRONTEND=noninteractive apt-get -qq -y -o DPkg::Lock::Timeout=300 \
		-o Dpkg::Use-Pty=0 --no-install-recommends install "$@"
}

install_packages() {
	case $installer in
	apt)
		# Images come without package lists, and old lists name files that are gone.
		ls /var/lib/apt/lists/*Packages* >/dev/null 2>&1 || apt_update
		# shellcheck disable=SC2086
		apt_install $1 >/dev/null || { say "trying again with fresh package lists" && apt_update && apt_install $1 >/dev/null; }
		;;
	dnf)
		# shellcheck disable=SC2086
		as_root dnf -y -q --setopt=install_weak_deps=False install $1
		;;
	esac
}

# Sets $packages to those that are missing, $reasons to a line for each.
find_missing() {
	packages='' reasons=''
	while IFS='|' read -r for how apt dnf why; do
		case " $wanted " in *" ${for:-nothing} "*) ;; *) continue ;; esac
		# shellcheck disable=SC2086
		have $how && continue
		if [ "$installer" = dnf ]; then package=$dnf; else package=$apt; fi
		packages="$packages $package"
		reasons="$reasons
  $package: $why (no ${how#* } found)"
	done <<-END
		$NEEDS
	END
}

check=no
wanted=''
for word in "$@"; do
	case $word in
	--check) check=yes ;;
	build | test | vm | vmlinux) wanted="$wanted $word" ;;
	*)
		echo "usage: $0 [--check] [build|test|vm|vmlinux]..." >&2
		exit 2
		;;
	esac
done
: "${wanted:=build test}"

if command -v apt-get >/dev/null 2>&1; then
	installer=apt
elif command -v dnf >/dev/null 2>&1; then
	installer=dnf
else
	installer=none
fi

# Rust comes first: distributions' own are mostly too old, so this does not install one.
for tool in cargo rustfmt; do
	command -v $tool >/dev/null 2>&1 && continue
	say "$tool is missing: install Rust (1.88 or newer, with rustfmt) by rustup and put it on PATH"
	exit 1
done

find_missing
[ -n "$packages" ] || exit 0
if [ $check = yes ]; then
	say "missing:$packages (\`make setup\` installs them)"
	exit 1
fi
if [ $installer = none ]; then
	say "no apt-get or dnf here; please install what corresponds to:$reasons"
	exit 1
fi
if [ "$(id -u)" != 0 ] && ! command -v sudo >/dev/null 2>&1; then
	say "root is needed to install:$reasons"
	exit 1
fi
say "installing by $installer:$reasons"
install_packages "$packages"
find_missing
if [ -n "$packages" ]; then
	say "still missing after the installation:$reasons"
	exit 1
fi
say "done"
