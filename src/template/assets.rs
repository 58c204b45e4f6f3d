//! Playbooks and templates: embedded in the binary; a copy on disk wins.

use std::path::{Path, PathBuf};

use rust_embed::RustEmbed;

#[derive(RustEmbed)]
#[folder = "templates"]
struct EmbeddedTemplates;

#[derive(RustEmbed)]
#[folder = "playbooks"]
struct EmbeddedPlaybooks;

/// Where playbooks and templates come from.
#[derive(Debug, Clone)]
pub struct Assets {
    /// A directory with `templates/` and `playbooks/` whose files win over the embedded ones.
    root: Option<PathBuf>,
}

impl Assets {
    /// What the binary holds, and nothing else.
    pub fn embedded() -> Self {
        Self { root: None }
    }

    /// With the copies below `root`, where there are any.
    pub fn with_copies(root: &Path) -> Self {
        Self { root: Some(root.to_owned()) }
    }

    fn copy(&self, folder: &str, name: &str) -> Option<String> {
        std::fs::read_to_string(self.root.as_ref()?.join(folder).join(name)).ok()
    }

    pub fn template(&self, name: &str) -> Option<String> {
        self.copy("templates", name).or_else(|| text(EmbeddedTemplates::get(name)?))
    }

    pub fn playbook(&self, name: &str) -> Option<String> {
        self.copy("playbooks", name).or_else(|| text(EmbeddedPlaybooks::get(name)?))
    }
}

fn text(file: rust_embed::EmbeddedFile) -> Option<String> {
    String::from_utf8(file.data.into_owned()).ok()
}

/// The embedded templates' names, sorted.
pub fn template_names() -> Vec<String> {
    sorted(EmbeddedTemplates::iter())
}

/// The embedded playbooks' names, sorted.
pub fn playbook_names() -> Vec<String> {
    sorted(EmbeddedPlaybooks::iter())
}

fn sorted(names: impl Iterator<Item = std::borrow::Cow<'static, str>>) -> Vec<String> {
    let mut names: Vec<String> = names.map(std::borrow::Cow::into_owned).collect();
    names.sort();
    names
}
