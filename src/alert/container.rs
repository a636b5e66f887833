//! A container in JSON: of a process, and of what happened to one.

use std::sync::Arc;

use serde::Serialize;

use crate::event::{Actions, CONTAINER_ACTIONS};
use crate::state::Process;
use crate::state::containers::{Container, Details};

/// A container with what was known of it when the alert was made, so that each printer writes the same.
#[derive(Clone, Debug)]
pub struct Known {
    container: Arc<Container>,
    details: Arc<Details>,
}

impl Known {
    pub fn new(container: &Arc<Container>) -> Self {
        let details = container.details().cloned().unwrap_or_default();
        Self { container: Arc::clone(container), details }
    }

    pub fn of(process: &Process) -> Option<Self> {
        process.container().map(Self::new)
    }

    /// The name, else the id, shortened as runtimes do.
    pub fn called(&self) -> &str {
        let id = &self.container.id;
        self.details.name.as_deref().or_else(|| id.get(..12)).unwrap_or(id)
    }

    pub fn image(&self) -> Option<&str> {
        self.details.image.as_deref()
    }

    pub fn runtime(&self) -> &'static str {
        self.details.runtime.unwrap_or(self.container.runtime).name()
    }
}

#[derive(Serialize)]
pub struct ContainerJson<'a> {
    id: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    name: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    image: Option<&'a str>,
    runtime: &'static str,
    #[serde(skip_serializing_if = "Option::is_none")]
    pod: Option<PodJson<'a>>,
    cgroup: &'a str,
    /// Whose part of the cgroup tree it is in: a rootless runtime's user.
    #[serde(skip_serializing_if = "Option::is_none")]
    user: Option<u32>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    actions: Vec<&'static str>,
}

#[derive(Serialize)]
struct PodJson<'a> {
    #[serde(skip_serializing_if = "Option::is_none")]
    name: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    namespace: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    uid: Option<&'a str>,
}

impl<'a> ContainerJson<'a> {
    pub fn new(known: &'a Known) -> Self {
        let (container, details) = (&*known.container, &*known.details);
        let pod = PodJson {
            name: details.pod_name.as_deref(),
            namespace: details.pod_namespace.as_deref(),
            uid: container.pod_uid.as_deref().or(details.pod_uid.as_deref()),
        };
        let in_pod = pod.name.is_some() || pod.uid.is_some();
        Self {
            id: &container.id,
            name: details.name.as_deref(),
            image: details.image.as_deref(),
            runtime: known.runtime(),
            pod: in_pod.then_some(pod),
            cgroup: container.cgroup.as_str(),
            user: container.user,
            actions: Vec::new(),
        }
    }

    pub fn with_actions(known: &'a Known, actions: Actions) -> Self {
        let done = (0..).zip(CONTAINER_ACTIONS).filter(|(bit, _)| actions.has(*bit));
        Self { actions: done.map(|(_, name)| name).collect(), ..Self::new(known) }
    }
}
