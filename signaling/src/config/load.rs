//! From argv, environment and file to one value list per key: flags beat environment, environment beats the file.

use super::ConfigError;
use super::keys::{self, CONFIG, KEYS, Key, Kind, PREFIX};
use clap::error::{ContextKind, ContextValue, ErrorKind};
use clap::{Arg, ArgAction, ArgMatches, Command};
use std::collections::BTreeMap;
use std::fmt;
use std::path::{Path, PathBuf};

/// The load generator has variables of its own.
const LOADTEST: &str = "LOADTEST_";

/// Where a value was found.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Source {
    /// The command line.
    Flag,
    /// A `URINGCAST_…` variable.
    Environment,
    /// The TOML file.
    File(PathBuf),
}

impl fmt::Display for Source {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Source::Flag => f.write_str("on the command line"),
            Source::Environment => f.write_str("in the environment"),
            Source::File(path) => write!(f, "in {}", path.display()),
        }
    }
}

/// What was written for one key.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Setting {
    /// One value, or several if the key is repeatable.
    pub values: Vec<String>,
    /// Where.
    pub source: Source,
}

/// Everything that was written, by key.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Settings(BTreeMap<&'static str, Setting>);

impl Settings {
    /// What was written for `name`.
    pub fn get(&self, name: &str) -> Option<&Setting> {
        self.0.get(name)
    }

    /// The same settings as environment variables for the media process. Secrets stay here, with what is of no use without
    /// them, and so does the file's path: the child must see what we saw, even if the file changes meanwhile.
    pub fn variables(&self) -> Vec<(String, String)> {
        let is_shared = |key: &&Key| key.kind != Kind::Secret && !key.signaling_only && key.name != CONFIG;
        let shared = KEYS.iter().filter(is_shared);
        shared.filter_map(|key| Some((key.variable(), self.get(key.name)?.values.join(",")))).collect()
    }

    /// The keys whose values differ in `other`.
    pub fn changed<'a>(&'a self, other: &'a Settings) -> impl Iterator<Item = &'static Key> + 'a {
        let values = |settings: &'a Settings, name| settings.get(name).map(|setting| &setting.values);
        KEYS.iter().filter(move |key| values(self, key.name) != values(other, key.name))
    }
}

/// The commands, each with its line of help.
const COMMANDS: &[(&str, &str)] = &[
    ("serve", "Run signaling and media (the default)"),
    ("signaling", "Run HTTP, WHIP and WHEP alone; media is found at --control"),
    ("media", "Run the media workers alone, steered at --control"),
    ("check", "Validate the configuration, probe this host, print what a client will see"),
    ("keys", "Print every configuration key as a table"),
];

/// The command line's grammar.
pub fn command() -> Command {
    let mut command = Command::new("uringcast")
        .version(env!("CARGO_PKG_VERSION"))
        .about("A WebRTC broadcast server: WHIP in, WHEP out, io_uring underneath")
        .after_help("Every key may also be a URINGCAST_… variable or stand in the TOML file of --config.");
    for (name, about) in COMMANDS {
        command = command.subcommand(Command::new(*name).about(*about));
    }
    command.args(KEYS.iter().map(argument))
}

/// Reads argv. Help and mistakes end the process.
pub fn matches() -> ArgMatches {
    command().try_get_matches().unwrap_or_else(|error| with_suggestions(error).exit())
}

/// clap knows the flag that is spelled alike; if there is none, here are those that have the word in them or in their value, and
/// commands that were written as flags.
pub fn with_suggestions(mut error: clap::Error) -> clap::Error {
    let unknown = match (error.get(ContextKind::InvalidArg), error.get(ContextKind::SuggestedArg)) {
        (Some(ContextValue::String(unknown)), None) if error.kind() == ErrorKind::UnknownArgument => {
            unknown.trim_start_matches('-').to_uppercase()
        }
        _ => return error,
    };
    let is_it = |word: &str| word.to_uppercase() == unknown;
    let commands = COMMANDS.iter().filter(|(name, _)| is_it(name));
    let has_it = |key: &&Key| key.name.split('-').chain(key.kind.placeholder().split(':')).any(is_it);
    let flags = KEYS.iter().filter(has_it).map(|key| format!("--{} <{}>", key.name, key.kind.placeholder()));
    let tips = commands.map(|(name, _)| format!("the command 'uringcast {name}' exists")).chain(flags);
    let tips: Vec<_> = tips.map(Into::into).collect();
    if !tips.is_empty() {
        error.insert(ContextKind::Suggested, ContextValue::StyledStrs(tips));
    }
    error
}

fn argument(key: &'static Key) -> Arg {
    let default = if key.default.is_empty() { String::new() } else { format!(" [default: {}]", key.default) };
    let arg = Arg::new(key.name)
        .long(key.name)
        .global(true)
        .value_name(key.kind.placeholder())
        .help(format!("{}{default} [env: {}]", key.help, key.variable()));
    match key.kind {
        Kind::Flag => arg.num_args(0..=1).require_equals(true).default_missing_value("true"),
        _ if key.repeatable => arg.action(ArgAction::Append),
        _ => arg,
    }
}

/// Collects every setting; every mistake found on the way is added to `errors`.
pub fn load(
    matches: &ArgMatches,
    environment: impl Fn(&str) -> Option<String>,
    errors: &mut Vec<ConfigError>,
) -> Settings {
    let mut settings = Settings::default();
    for key in KEYS {
        let flag =
            matches.get_many::<String>(key.name).map(|values| (values.cloned().collect(), Source::Flag));
        let found = flag.or_else(|| Some((vec![environment(&key.variable())?], Source::Environment)));
        if let Some((values, source)) = found {
            settings.0.insert(key.name, Setting { values: split(key, values), source });
        }
    }
    if let Some(file) = settings.get(CONFIG).and_then(|setting| setting.values.first().cloned()) {
        add_file(Path::new(&file), &mut settings, errors);
    }
    settings
}

/// A `URINGCAST_…` variable that is no key.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct UnknownVariable {
    name: String,
    suggestion: Option<String>,
}

impl fmt::Display for UnknownVariable {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "the variable {} is no key and is ignored", self.name)?;
        match &self.suggestion {
            Some(name) => write!(f, "; did you mean {name}?"),
            None => f.write_str("; `uringcast keys` lists them all"),
        }
    }
}

/// Those among the environment's `names`. A key in the file that is none is an error; a variable is not, because others make some
/// of this prefix too (Kubernetes for a service of this name).
pub fn unknown_variables(names: impl Iterator<Item = String>) -> Vec<UnknownVariable> {
    let mut unknown: Vec<UnknownVariable> = names.filter_map(|name| unknown_variable(&name)).collect();
    unknown.sort_by(|a, b| a.name.cmp(&b.name));
    unknown
}

fn unknown_variable(name: &str) -> Option<UnknownVariable> {
    let key = name.strip_prefix(PREFIX)?;
    if key.starts_with(LOADTEST) || KEYS.iter().any(|known| known.variable() == name) {
        return None;
    }
    let nearest = keys::nearest(&key.to_lowercase()).and_then(keys::find);
    Some(UnknownVariable { name: name.to_owned(), suggestion: nearest.map(Key::variable) })
}

/// Repeatable keys take lists with commas.
fn split(key: &Key, values: Vec<String>) -> Vec<String> {
    if !key.repeatable {
        return values;
    }
    let parts = values.iter().flat_map(|value| value.split(','));
    parts.map(|part| part.trim().to_owned()).filter(|part| !part.is_empty()).collect()
}

fn add_file(path: &Path, settings: &mut Settings, errors: &mut Vec<ConfigError>) {
    let text = match std::fs::read_to_string(path) {
        Ok(text) => text,
        Err(cause) => return errors.push(ConfigError::FileUnreadable { path: path.to_owned(), cause }),
    };
    let table = match text.parse::<toml::Table>() {
        Ok(table) => table,
        Err(cause) => {
            return errors.push(ConfigError::FileSyntax { path: path.to_owned(), cause: Box::new(cause) });
        }
    };
    for (name, value) in table {
        let Some(key) = keys::find(&name).filter(|key| key.name != CONFIG) else {
            errors.push(ConfigError::UnknownKey {
                path: path.to_owned(),
                suggestion: keys::nearest(&name),
                name,
            });
            continue;
        };
        match scalars(&value) {
            Some(values) => {
                let setting = Setting { values: split(key, values), source: Source::File(path.to_owned()) };
                settings.0.entry(key.name).or_insert(setting);
            }
            None => errors.push(ConfigError::FileType { path: path.to_owned(), key: key.name }),
        }
    }
}

/// A value as the text that a flag would have; `None` for tables and dates.
fn scalars(value: &toml::Value) -> Option<Vec<String>> {
    match value {
        toml::Value::String(text) => Some(vec![text.clone()]),
        toml::Value::Integer(number) => Some(vec![number.to_string()]),
        toml::Value::Float(number) => Some(vec![number.to_string()]),
        toml::Value::Boolean(flag) => Some(vec![flag.to_string()]),
        toml::Value::Array(items) => {
            let lists: Option<Vec<_>> = items.iter().map(scalars).collect();
            lists.map(|lists| lists.concat())
        }
        _ => None,
    }
}
