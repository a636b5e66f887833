//! Names of local users, for people who read alerts.

use std::collections::HashMap;
use std::fs;

/// From /etc/passwd alone: asking NSS could wait for a directory server, and the process that
/// asks would be seen connecting to it.
#[derive(Debug, Default)]
pub struct Users(HashMap<u32, String>);

impl Users {
    pub fn read() -> Self {
        fs::read_to_string("/etc/passwd").map(|text| Self::parse(&text)).unwrap_or_default()
    }

    /// The first name of a user id counts, as in getpwuid.
    fn parse(passwd: &str) -> Self {
        let mut names = HashMap::new();
        for line in passwd.lines() {
            let mut fields = line.split(':');
            let (name, uid) = (fields.next(), fields.nth(1));
            if let (Some(name), Some(Ok(uid))) = (name, uid.map(str::parse)) {
                names.entry(uid).or_insert_with(|| name.to_owned());
            }
        }
        Self(names)
    }

    pub fn name(&self, uid: u32) -> Option<&str> {
        self.0.get(&uid).map(String::as_str)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_name_of_a_uid_counts_and_bad_lines_are_passed_over() {
        let users = Users::parse("root:x:0:0::/root:/bin/sh\ntoor:x:0:0\n\nbroken\nbin:x:one:1\n");
        assert_eq!(users.name(0), Some("root"));
        assert_eq!(users.name(1), None);
    }
}
