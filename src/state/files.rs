//! The names that files were seen under.
//!
//! A file is a device and an inode; hard links, renames and bind mounts are names of it. A name is
//! noted when a path is put together for the first time, which is rare, so that events under
//! known names cost nothing here.

use super::recent::Recent;
use crate::text::Text;

/// Names kept of one file, the last ones: a file that is renamed for ever must not fill memory.
const NAMES_MAX: usize = 16;

/// Device (`st_dev`) and inode.
pub type FileId = (u64, u64);

/// See the module.
#[derive(Debug)]
pub struct Files {
    names: Recent<FileId, Vec<Text>>,
}

impl Files {
    /// Keeps the names of up to `files` files.
    pub fn new(files: usize) -> Self {
        Self { names: Recent::new(files) }
    }

    /// The file was reached by this name. `created`: under a number that another file had
    /// before, whose names are not this one's.
    pub fn saw(&mut self, file: FileId, name: &Text, created: bool) {
        let names = self.names.entry(file);
        if created {
            names.clear();
        }
        names.retain(|known| known != name);
        if names.len() >= NAMES_MAX {
            names.remove(0);
        }
        names.push(name.clone());
    }

    /// Oldest first; empty where the file is not known.
    pub fn names(&self, file: FileId) -> Vec<Text> {
        self.names.peek(&file).cloned().unwrap_or_default()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_name_once_and_a_new_file_begins_anew() {
        let mut files = Files::new(100);
        for name in ["/a", "/b", "/a"] {
            files.saw((1, 2), &name.into(), false);
        }
        assert_eq!(files.names((1, 2)), ["/b".into(), "/a".into()]);
        files.saw((1, 2), &"/c".into(), true);
        assert_eq!(files.names((1, 2)), ["/c".into()]);
        assert_eq!(files.names((1, 3)), []);
        for at in 0..1000 {
            files.saw((1, 2), &format!("/{at}").as_str().into(), false);
        }
        assert_eq!(files.names((1, 2)).len(), NAMES_MAX);
    }
}
