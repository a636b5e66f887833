//! What a cgroup's path says of a container.

/// Who runs a container.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Runtime {
    Docker,
    Containerd,
    CriO,
    Podman,
    Runc,
    Crun,
    Nspawn,
    Lxc,
    /// A container by its id, of whichever runtime.
    Unknown,
}

impl Runtime {
    pub const fn name(self) -> &'static str {
        match self {
            Self::Docker => "docker",
            Self::Containerd => "containerd",
            Self::CriO => "cri-o",
            Self::Podman => "podman",
            Self::Runc => "runc",
            Self::Crun => "crun",
            Self::Nspawn => "systemd-nspawn",
            Self::Lxc => "lxc",
            Self::Unknown => "unknown",
        }
    }
}

/// A container as a path names it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Found {
    pub id: String,
    pub runtime: Runtime,
    pub pod_uid: Option<String>,
    pub user: Option<u32>,
}

/// What stands before an id in one directory's name, and whose that is. A scope's `.scope` is taken off
/// before. The id is 64 hex digits, or any name where the third column says so.
const PREFIXES: &[(&str, Runtime, bool)] = &[
    ("docker-", Runtime::Docker, false),
    ("cri-containerd-", Runtime::Containerd, false),
    ("cri-containerd:", Runtime::Containerd, false),
    ("nerdctl-", Runtime::Containerd, false),
    ("containerd-", Runtime::Containerd, false),
    ("crio-", Runtime::CriO, false),
    ("libpod-", Runtime::Podman, false),
    ("runc-", Runtime::Runc, true),
    ("crun-", Runtime::Crun, true),
    ("lxc.payload.", Runtime::Lxc, true),
];

/// What stands in the directory above an id of 64 hex digits.
const ABOVE: &[(&str, Runtime)] = &[
    ("docker", Runtime::Docker),
    ("libpod_parent", Runtime::Podman),
    ("k8s.io", Runtime::Containerd),
    ("default", Runtime::Containerd),
    ("moby", Runtime::Docker),
];

/// The outermost container of a path: what is below it is chosen by who is inside.
pub fn parse(path: &str) -> Option<Found> {
    let mut pod_uid = None;
    let mut user = None;
    let mut above = "";
    let mut components = path.split('/').filter(|one| !one.is_empty()).peekable();
    while let Some(component) = components.next() {
        // nspawn itself is beside what it runs.
        let supervisor = components.peek() == Some(&"supervisor");
        if let Some((id, runtime)) = container(component, above).filter(|_| !supervisor) {
            return Some(Found { id, runtime, pod_uid, user });
        }
        pod_uid = pod(component).or(pod_uid);
        let of_user =
            component.strip_prefix("user@").and_then(|rest| rest.strip_suffix(".service"));
        user = of_user.and_then(|uid| uid.parse().ok()).or(user);
        above = component;
    }
    None
}

fn container(component: &str, above: &str) -> Option<(String, Runtime)> {
    let scope = component.strip_suffix(".scope");
    let name = scope.unwrap_or(component);
    if let Some(machine) = scope.and_then(|name| name.strip_prefix("machine-")) {
        let machine = unescape(machine);
        // libvirt's machines are not containers, or say that they are.
        let is_virtual = machine.starts_with("qemu-") || machine.starts_with("xen-");
        return (!is_virtual).then_some((machine, Runtime::Nspawn));
    }
    let service = component.strip_suffix(".service");
    if let Some(machine) = service.and_then(|name| name.strip_prefix("systemd-nspawn@")) {
        return Some((unescape(machine), Runtime::Nspawn));
    }
    if ["lxc", "lxc.payload"].contains(&above) {
        return Some((name.to_owned(), Runtime::Lxc));
    }
    if name.contains("-conmon-") {
        return None;
    }
    for (prefix, runtime, any) in PREFIXES {
        let named = *any && (scope.is_some() || *runtime == Runtime::Lxc);
        // `slice:prefix:id` is what a runtime makes of a systemd path without systemd.
        let at = name.rfind(prefix).filter(|at| *at == 0 || name[..*at].ends_with(':'));
        if let Some(id) = at.and_then(|at| name.get(at + prefix.len()..))
            && !id.is_empty()
            && (named || is_id(id))
        {
            return Some((id.to_owned(), *runtime));
        }
    }
    if is_id(name) {
        let runtime = ABOVE.iter().find(|(parent, _)| *parent == above);
        return Some((name.to_owned(), runtime.map_or(Runtime::Unknown, |(_, runtime)| *runtime)));
    }
    None
}

fn is_id(text: &str) -> bool {
    text.len() == 64 && text.bytes().all(|byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f'))
}

/// `pod<uid>`, or `kubepods-burstable-pod<uid>.slice` with `_` for `-`.
fn pod(component: &str) -> Option<String> {
    let uid = match component.strip_suffix(".slice") {
        Some(slice) if slice.starts_with("kubepods") => slice.rsplit_once("-pod")?.1,
        Some(_) => return None,
        None => component.strip_prefix("pod")?,
    };
    let uid = uid.replace('_', "-");
    let hex = uid.bytes().all(|byte| byte.is_ascii_hexdigit() || byte == b'-');
    (hex && matches!(uid.len(), 32 | 36)).then_some(uid)
}

/// A unit's name says `-` and others as `\x2d`.
fn unescape(name: &str) -> String {
    let mut plain = Vec::with_capacity(name.len());
    let mut rest = name.as_bytes();
    while let Some((&byte, after)) = rest.split_first() {
        let hex = rest.strip_prefix(b"\\x").and_then(|hex| hex.get(..2));
        let code = hex.and_then(|hex| std::str::from_utf8(hex).ok());
        if let Some(code) = code.and_then(|hex| u8::from_str_radix(hex, 16).ok()) {
            plain.push(code);
            rest = &rest[4..];
        } else {
            plain.push(byte);
            rest = after;
        }
    }
    String::from_utf8_lossy(&plain).into_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    const ID: &str = "fb46fcb3512d3ab7646063b302aba2c350e37f8181d8996c6f529bf1674c2acf";
    const UID: &str = "0a1b2c3d-1111-2222-3333-444455556666";

    #[test]
    fn each_runtime_names_its_containers() {
        let pod = UID.replace('-', "_");
        for (path, runtime, in_pod) in [
            (format!("/docker/{ID}"), Runtime::Docker, false),
            (format!("/system.slice/docker-{ID}.scope"), Runtime::Docker, false),
            (format!("/system.slice/docker-{ID}.scope/init.scope"), Runtime::Docker, false),
            (format!("/libpod_parent/libpod-{ID}"), Runtime::Podman, false),
            (format!("/machine.slice/libpod-{ID}.scope/container"), Runtime::Podman, false),
            (format!("/default/{ID}"), Runtime::Containerd, false),
            (format!("/kubepods/burstable/pod{UID}/{ID}"), Runtime::Unknown, true),
            (
                format!(
                    "/kubepods.slice/kubepods-burstable.slice/kubepods-burstable-pod{pod}.slice/cri-containerd-{ID}.scope"
                ),
                Runtime::Containerd,
                true,
            ),
            (
                format!("/kubepods.slice/kubepods-pod{pod}.slice/crio-{ID}.scope"),
                Runtime::CriO,
                true,
            ),
            (
                format!(
                    "/system.slice/k.service/kubepods-besteffort-pod{pod}.slice:cri-containerd:{ID}"
                ),
                Runtime::Containerd,
                false,
            ),
            (format!("/actions_job/{ID}"), Runtime::Unknown, false),
        ] {
            let found = parse(&path).unwrap_or_else(|| panic!("{path}"));
            assert_eq!((found.id.as_str(), found.runtime), (ID, runtime), "{path}");
            assert_eq!(found.pod_uid.as_deref(), in_pod.then_some(UID), "{path}");
            assert_eq!(found.user, None);
        }
        for (path, id, runtime) in [
            ("/machine.slice/machine-deb\\x2d12.scope/payload", "deb-12", Runtime::Nspawn),
            (
                "/machine.slice/systemd-nspawn@web.service/payload/init.scope",
                "web",
                Runtime::Nspawn,
            ),
            ("/lxc/web", "web", Runtime::Lxc),
            ("/lxc.payload.web/system.slice", "web", Runtime::Lxc),
            ("/system.slice/runc-plain.scope", "plain", Runtime::Runc),
        ] {
            let found = parse(path).unwrap_or_else(|| panic!("{path}"));
            assert_eq!((found.id.as_str(), found.runtime), (id, runtime), "{path}");
        }
    }

    #[test]
    fn a_users_own_tree_says_whose_it_is() {
        let path =
            format!("/user.slice/user-1000.slice/user@1000.service/user.slice/libpod-{ID}.scope");
        assert_eq!(parse(&path).and_then(|found| found.user), Some(1000));
    }

    #[test]
    fn the_outermost_is_the_container() {
        let inner = "0".repeat(64);
        let found = parse(&format!("/docker/{ID}/docker/{inner}")).unwrap();
        assert_eq!(found.id, ID);
    }

    #[test]
    fn what_is_no_container_is_none() {
        for path in [
            "/".to_owned(),
            "/system.slice/docker.service".to_owned(),
            "/docker".to_owned(),
            format!("/docker/{}", &ID[1..]),
            format!("/docker/{}", ID.to_uppercase()),
            format!("/machine.slice/libpod-conmon-{ID}.scope"),
            format!("/kubepods.slice/crio-conmon-{ID}.scope"),
            "/machine.slice/machine-qemu\\x2d1\\x2dvm.scope/libvirt".to_owned(),
            "/machine.slice/machine-web.scope/supervisor".to_owned(),
            format!("/kubepods/burstable/pod{UID}"),
            "/user.slice/user-0.slice/session-1.scope".to_owned(),
            "/runc-evil".to_owned(),
            "\\x".to_owned(),
        ] {
            assert_eq!(parse(&path), None, "{path}");
        }
    }
}
