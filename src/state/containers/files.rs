//! The runtimes' own files: bounded, never waited for, and not trusted.

use std::fs::{self, OpenOptions};
use std::io::Read;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

use serde_json::Value;

use super::cgroup_path::Runtime;
use super::{Container, Details};

/// Bytes of one file; podman's list of all containers is the largest.
const LARGEST: u64 = 16 << 20;
/// Entries of one directory.
const ENTRIES: usize = 16 * 1024;
/// Bytes of a name that is shown.
const NAME: usize = 512;

/// What any runtime's files say of a container; none if there are none (yet).
pub fn details(
    container: &Container,
    bundle: Option<&Path>,
    docker_roots: &[PathBuf],
    unreadable: &AtomicU64,
) -> Option<Details> {
    let reader = Reader { unreadable };
    let id = &*container.id;
    // An id goes into paths; a runtime's has no slash, a pretended one may.
    if id.contains('/') || id == ".." || id == "." {
        return None;
    }
    let mut found = match container.user {
        // The host's own files say nothing of what a user made.
        Some(uid) => reader.podman(&[home(uid)?.join(".local/share/containers/storage")], id),
        None => reader.host(container.runtime, id, bundle, docker_roots),
    }?;
    if let Some(uid) = container.pod_uid() {
        let pod = kubelet_pod(&fs_names(Path::new("/var/log/pods")), uid);
        found.pod_namespace = found.pod_namespace.or_else(|| pod.as_ref().map(|pod| pod.0.clone()));
        found.pod_name = found.pod_name.or_else(|| pod.map(|pod| pod.1));
    }
    Some(found)
}

/// The cgroup that a bundle asks for.
pub fn cgroup_of(bundle: &Path) -> Option<String> {
    let config: Value = serde_json::from_slice(&bounded(&bundle.join("config.json")).ok()?).ok()?;
    text(&config["linux"]["cgroupsPath"])
}

struct Reader<'a> {
    unreadable: &'a AtomicU64,
}

impl Reader<'_> {
    fn host(
        &self,
        runtime: Runtime,
        id: &str,
        bundle: Option<&Path>,
        docker_roots: &[PathBuf],
    ) -> Option<Details> {
        let storage = || {
            let of_bundle = bundle.and_then(|bundle| Some(bundle.ancestors().nth(3)?.to_owned()));
            of_bundle.into_iter().chain(["/var/lib/containers/storage".into()]).collect::<Vec<_>>()
        };
        let plain = || self.plain(runtime, id, bundle);
        match runtime {
            Runtime::Docker => self.docker(docker_roots, id),
            Runtime::Podman => self.podman(&storage(), id),
            Runtime::Containerd => self.containerd(id),
            Runtime::CriO => self.cri_o(id),
            Runtime::Nspawn => Some(nspawn(id, bundle)),
            Runtime::Runc | Runtime::Crun => plain(),
            Runtime::Lxc => Some(Details { name: Some(id.into()), ..Details::default() }),
            Runtime::Unknown => self
                .docker(docker_roots, id)
                .or_else(|| self.containerd(id))
                .or_else(|| self.cri_o(id))
                .or_else(|| self.podman(&storage(), id))
                .or_else(plain),
        }
    }

    fn docker(&self, roots: &[PathBuf], id: &str) -> Option<Details> {
        let configured = self.json(Path::new("/etc/docker/daemon.json"));
        let configured = configured.and_then(|file| text(file.get("data-root")?));
        let usual = ["/var/lib/docker", "/var/snap/docker/common/var-lib-docker"];
        let usual = configured.into_iter().map(PathBuf::from).chain(usual.map(PathBuf::from));
        let found =
            roots.iter().cloned().chain(usual).find_map(|root| {
                self.json(&root.join("containers").join(id).join("config.v2.json"))
            })?;
        Some(of_docker(&found))
    }

    fn podman(&self, roots: &[PathBuf], id: &str) -> Option<Details> {
        let drivers = ["overlay", "vfs", "btrfs", "zfs"];
        roots.iter().find_map(|root| {
            drivers.iter().find_map(|driver| {
                let list = self.json(&root.join(format!("{driver}-containers/containers.json")))?;
                of_storage(&list, id)
            })
        })
    }

    fn containerd(&self, id: &str) -> Option<Details> {
        let tasks = Path::new("/run/containerd/io.containerd.runtime.v2.task");
        let bundles = fs_names(tasks).into_iter().map(|space| tasks.join(space).join(id));
        bundles.map(|bundle| bundle.join("config.json")).find_map(|file| {
            let details = of_bundle(&self.json(&file)?);
            Some(Details { runtime: Some(Runtime::Containerd), ..details })
        })
    }

    fn cri_o(&self, id: &str) -> Option<Details> {
        ["/run/containers/storage", "/var/lib/containers/storage"].iter().find_map(|root| {
            let file = format!("{root}/overlay-containers/{id}/userdata/config.json");
            let config = self.json(Path::new(&file))?;
            let ours = config["annotations"]["io.container.manager"] == "cri-o";
            let details = of_bundle(&config);
            ours.then_some(Details { runtime: Some(Runtime::CriO), ..details })
        })
    }

    /// An OCI runtime that somebody else, or nobody, gave a name to.
    fn plain(&self, runtime: Runtime, id: &str, bundle: Option<&Path>) -> Option<Details> {
        let state = self.json(&Path::new("/run/runc").join(id).join("state.json"));
        let labels = state.as_ref().and_then(|state| state["config"]["labels"].as_array());
        let told = labels.into_iter().flatten().filter_map(Value::as_str);
        let told = told.filter_map(|label| label.strip_prefix("bundle=")).next().map(PathBuf::from);
        let bundle = bundle.map(Path::to_owned).or(told)?;
        let mut details = of_bundle(&self.json(&bundle.join("config.json"))?);
        // Whose bundle it is says who called the OCI runtime.
        let by = bundle.to_str().filter(|at| at.contains("/io.containerd.runtime."));
        let is_plain = runtime != Runtime::Unknown;
        details.runtime = by.map(|_| Runtime::Containerd).or(is_plain.then_some(runtime));
        details.name.get_or_insert_with(|| id.to_owned());
        Some(details)
    }

    /// None for what is not there; what is there and cannot be read is counted.
    fn json(&self, path: &Path) -> Option<Value> {
        let bytes = match bounded(path) {
            Ok(bytes) => bytes,
            Err(error) => {
                let absent = matches!(
                    error.kind(),
                    std::io::ErrorKind::NotFound | std::io::ErrorKind::NotADirectory
                );
                self.unreadable.fetch_add(u64::from(!absent), Relaxed);
                return None;
            }
        };
        let value = serde_json::from_slice(&bytes);
        // Half written, perhaps: it is tried again.
        self.unreadable.fetch_add(u64::from(value.is_err()), Relaxed);
        value.ok()
    }
}

/// A regular file, whole, if it is not too large. Never waits for a fifo or a device.
fn bounded(path: &Path) -> std::io::Result<Vec<u8>> {
    let flags = libc::O_NONBLOCK | libc::O_NOCTTY | libc::O_CLOEXEC;
    let file = OpenOptions::new().read(true).custom_flags(flags).open(path)?;
    let about = file.metadata()?;
    if !about.is_file() || about.len() > LARGEST {
        return Err(std::io::Error::other("not a file of a bearable size"));
    }
    let mut bytes = Vec::new();
    file.take(LARGEST).read_to_end(&mut bytes)?;
    Ok(bytes)
}

fn fs_names(path: &Path) -> Vec<String> {
    let entries = fs::read_dir(path).into_iter().flatten().take(ENTRIES).flatten();
    entries.filter_map(|entry| entry.file_name().into_string().ok()).collect()
}

fn home(uid: u32) -> Option<PathBuf> {
    let users = fs::read_to_string("/etc/passwd").ok()?;
    users.lines().find_map(|line| {
        let mut fields = line.split(':').skip(2);
        let id: u32 = fields.next()?.parse().ok()?;
        (id == uid).then(|| fields.nth(2).map(PathBuf::from))?
    })
}

/// A text that is there and not empty, of a bearable length.
fn text(value: &Value) -> Option<String> {
    let text = value.as_str().filter(|text| !text.is_empty())?;
    let end = (0..=NAME.min(text.len())).rev().find(|at| text.is_char_boundary(*at))?;
    Some(text[..end].to_owned())
}

fn of_docker(config: &Value) -> Details {
    let labels = &config["Config"]["Labels"];
    let name = text(&config["Name"]).map(|name| name.trim_start_matches('/').to_owned());
    Details {
        name,
        image: text(&config["Config"]["Image"]).or_else(|| text(&config["Image"])),
        runtime: Some(Runtime::Docker),
        pod_name: text(&labels["io.kubernetes.pod.name"]),
        pod_namespace: text(&labels["io.kubernetes.pod.namespace"]),
        pod_uid: text(&labels["io.kubernetes.pod.uid"]),
    }
}

/// One container of a list of containers/storage, which podman and CRI-O share.
fn of_storage(list: &Value, id: &str) -> Option<Details> {
    let one = list.as_array()?.iter().find(|one| one["id"] == id)?;
    let about: Value = one["metadata"]
        .as_str()
        .and_then(|about| serde_json::from_str(about).ok())
        .unwrap_or_default();
    Some(Details {
        name: text(&one["names"][0]).or_else(|| text(&about["name"])),
        image: text(&about["image-name"]).or_else(|| text(&one["image"])),
        runtime: Some(Runtime::Podman),
        ..Details::default()
    })
}

/// For each detail, the annotations that have it, the most telling first.
fn of_bundle(config: &Value) -> Details {
    let notes = &config["annotations"];
    let first = |keys: &[&str]| keys.iter().find_map(|key| text(&notes[*key]));
    Details {
        name: first(&[
            "io.kubernetes.cri.container-name",
            "io.kubernetes.container.name",
            "io.kubernetes.cri-o.ContainerName",
            "nerdctl/name",
            "io.kubernetes.cri.sandbox-name",
        ]),
        image: first(&[
            "io.kubernetes.cri.image-name",
            "io.kubernetes.cri-o.ImageName",
            "io.kubernetes.cri-o.Image",
            "org.opencontainers.image.ref.name",
        ]),
        runtime: None,
        pod_name: first(&["io.kubernetes.cri.sandbox-name", "io.kubernetes.pod.name"]),
        pod_namespace: first(&[
            "io.kubernetes.cri.sandbox-namespace",
            "io.kubernetes.pod.namespace",
        ]),
        pod_uid: first(&["io.kubernetes.cri.sandbox-uid", "io.kubernetes.pod.uid"]),
    }
}

/// machined's note of a machine has its root; without machined, whoever made it was told.
fn nspawn(id: &str, root: Option<&Path>) -> Details {
    let note = bounded(&Path::new("/run/systemd/machines").join(id)).unwrap_or_default();
    let note = String::from_utf8_lossy(&note);
    let noted = note.lines().find_map(|line| line.strip_prefix("ROOT=")).map(str::to_owned);
    let root = noted.or_else(|| root.and_then(Path::to_str).map(str::to_owned));
    Details {
        name: Some(id.into()),
        image: root,
        runtime: Some(Runtime::Nspawn),
        ..Details::default()
    }
}

/// Namespace and name of a pod, from the kubelet's log folders: `namespace_name_uid`.
fn kubelet_pod(folders: &[String], uid: &str) -> Option<(String, String)> {
    folders.iter().find_map(|folder| {
        let (rest, _) = folder.rsplit_once('_').filter(|(_, end)| *end == uid)?;
        let (space, name) = rest.split_once('_')?;
        Some((space.to_owned(), name.to_owned()))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn json(text: &str) -> Value {
        serde_json::from_str(text).unwrap()
    }

    #[test]
    fn docker_has_name_and_image_in_one_file() {
        let details = of_docker(&json(
            r#"{"State":{"Pid":7},"ID":"fb46","Config":{"Image":"lab:1","Labels":{"io.kubernetes.pod.name":"p"}},
                "Image":"sha256:6298","Name":"/webby"}"#,
        ));
        assert_eq!(details.name.as_deref(), Some("webby"));
        assert_eq!(details.image.as_deref(), Some("lab:1"));
        assert_eq!(details.pod_name.as_deref(), Some("p"));
        assert_eq!(of_docker(&json("[1]")).name, None);
    }

    #[test]
    fn podman_has_a_list_with_json_in_json() {
        let list = json(
            r#"[{"id":"a","names":["other"],"image":"x"},
                {"id":"802d","names":["poddy"],"image":"61ab","metadata":"{\"image-name\":\"localhost/lab:1\",\"name\":\"poddy\"}"},
                {"id":"odd","names":7,"metadata":"{"}]"#,
        );
        let details = of_storage(&list, "802d").unwrap();
        assert_eq!(details.name.as_deref(), Some("poddy"));
        assert_eq!(details.image.as_deref(), Some("localhost/lab:1"));
        assert_eq!(of_storage(&list, "odd").unwrap().name, None);
        assert_eq!(of_storage(&list, "none"), None);
    }

    #[test]
    fn a_bundles_annotations_tell_the_pod() {
        let details = of_bundle(&json(
            r#"{"annotations":{"io.kubernetes.cri.container-name":"app","io.kubernetes.cri.image-name":"docker.io/library/nginx:1",
                "io.kubernetes.cri.sandbox-name":"web-0","io.kubernetes.cri.sandbox-namespace":"shop","io.kubernetes.cri.sandbox-uid":"u"}}"#,
        ));
        assert_eq!(details.name.as_deref(), Some("app"));
        assert_eq!(details.image.as_deref(), Some("docker.io/library/nginx:1"));
        assert_eq!(details.pod_name.as_deref(), Some("web-0"));
        assert_eq!(details.pod_namespace.as_deref(), Some("shop"));
        assert_eq!(of_bundle(&json("{}")), Details::default());
    }

    #[test]
    fn the_kubelets_folders_name_pods() {
        let folders =
            ["kube-system_etcd-a_0123".to_owned(), "shop_web-0_0a1b".to_owned(), "odd".to_owned()];
        assert_eq!(kubelet_pod(&folders, "0a1b"), Some(("shop".into(), "web-0".into())));
        assert_eq!(kubelet_pod(&folders, "ffff"), None);
    }

    #[test]
    fn hostile_files_cost_little() {
        let folder = tempfile::tempdir().unwrap();
        let fifo = std::ffi::CString::new(folder.path().join("fifo").to_str().unwrap()).unwrap();
        // SAFETY: a path that ends with a NUL.
        assert_eq!(unsafe { libc::mkfifo(fifo.as_ptr(), 0o600) }, 0);
        assert!(bounded(&folder.path().join("fifo")).is_err());
        let large = fs::File::create(folder.path().join("large")).unwrap();
        large.set_len(LARGEST + 1).unwrap();
        assert!(bounded(&folder.path().join("large")).is_err());
        fs::write(folder.path().join("deep"), "[".repeat(100_000)).unwrap();
        let unreadable = AtomicU64::new(0);
        assert!(Reader { unreadable: &unreadable }.json(&folder.path().join("deep")).is_none());
        assert_eq!(unreadable.load(Relaxed), 1);
    }
}
