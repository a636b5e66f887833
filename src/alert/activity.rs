//! An activity in JSON: `activity` of alerts of that mechanism.

use serde::ser::SerializeMap;
use serde::{Serialize, Serializer};
use uuid::Uuid;

use crate::alert::{Host, ids};
use crate::event::{Activity, Detail, errno_name};
use crate::state::Process;

#[derive(Serialize)]
pub struct ActivityJson<'a> {
    name: &'static str,
    area: &'static str,
    /// `success`, or the name of the error.
    result: String,
    details: Details<'a>,
    #[serde(skip_serializing_if = "Option::is_none")]
    target: Option<Target<'a>>,
}

/// Who it was done to.
#[derive(Serialize)]
struct Target<'a> {
    pid: u32,
    /// Left out where only the pid is known, as the task said it.
    #[serde(skip_serializing_if = "Option::is_none")]
    uuid: Option<Uuid>,
    #[serde(skip_serializing_if = "str::is_empty")]
    comm: &'a str,
    #[serde(skip_serializing_if = "str::is_empty")]
    exe: &'a str,
}

struct Details<'a>(&'a Activity);

impl<'a> ActivityJson<'a> {
    pub fn new(activity: &'a Activity, host: &Host) -> Self {
        let kind = activity.kind();
        Self {
            name: kind.name,
            area: kind.area.name(),
            result: match activity.error {
                0 => "success".into(),
                error => errno_name(error),
            },
            details: Details(activity),
            target: activity.target.as_deref().map(|target| Target::new(target, host)),
        }
    }
}

impl<'a> Target<'a> {
    fn new(process: &'a Process, host: &Host) -> Self {
        Self {
            pid: process.pid(),
            uuid: (process.key.start_ns != 0).then(|| ids::process_uuid(host, process.key)),
            comm: process.comm.as_str(),
            exe: process.exe(),
        }
    }
}

/// Numbers without a name stay numbers; a set of bits is a list of names.
impl Serialize for Details<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let details = self.0.details();
        let mut map = serializer.serialize_map(Some(details.len()))?;
        for (label, detail) in &details {
            match detail {
                Detail::Number(number, None) => map.serialize_entry(label, number)?,
                Detail::Bits(_, names) if !names.is_empty() => map.serialize_entry(label, names)?,
                other => map.serialize_entry(label, &format_args!("{other}"))?,
            }
        }
        map.end()
    }
}
