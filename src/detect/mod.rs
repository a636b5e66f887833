use std::sync::Arc;
use std::path::PathBuf;
use crate::event::{Event, Mechanism, Actions};
use crate::state::Process;
#[derive(Debug)]
pub struct Ruleset;
#[derive(Debug)]
pub struct Recipe { pub facts: Arc<crate::alert::RecipeFacts> }
pub struct Verdict { pub recipe: Arc<Recipe>, pub note: Option<String> }
impl Ruleset {
    pub fn load(_b: bool, _d: &[PathBuf], _e: Option<&[String]>) -> (Self, Vec<crate::problem::Problem>) { (Self, vec![]) }
    pub fn watched_env_names(&self) -> std::collections::BTreeSet<String> { ["LD_PRELOAD".to_owned()].into() }
    pub fn wanted_actions(&self) -> Actions { Actions(0) }
    pub fn recipes(&self) -> &[Arc<Recipe>] { &[] }
}
pub struct Detector;
impl Detector {
    pub fn new(_r: Arc<Ruleset>, _m: Mechanism) -> Self { Self }
    pub fn reload(&mut self, _r: Arc<Ruleset>) {}
    pub fn candidates(&mut self, _e: &Event, _o: &mut Vec<usize>) {}
    pub fn decide(&mut self, _c: &[usize], _e: &Event, _p: &Arc<Process>) -> Vec<Verdict> { vec![] }
}
