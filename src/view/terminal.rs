//! Whether output is coloured.

/// What `--color` says.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub enum ColorChoice {
    /// Nothing: environment and terminal decide.
    #[default]
    Auto,
    /// Yes.
    Always,
    /// No.
    Never,
}

/// What the environment says about colours: the values of the variables, where they are set.
#[derive(Clone, Debug, PartialEq, Eq, Default)]
pub struct ColorEnv {
    /// `NO_COLOR`.
    pub no_color: Option<String>,
    /// `CLICOLOR_FORCE`.
    pub clicolor_force: Option<String>,
    /// `TERM`.
    pub term: Option<String>,
}

/// Decides about colours: `--color`, then `NO_COLOR`, then `CLICOLOR_FORCE`, then whether the stream
/// is a terminal that knows any.
pub fn use_color(choice: ColorChoice, env: &ColorEnv, is_terminal: bool) -> bool {
    let is_set = |value: &Option<String>| value.as_deref().is_some_and(|value| !value.is_empty());
    match choice {
        ColorChoice::Always => true,
        ColorChoice::Never => false,
        ColorChoice::Auto if is_set(&env.no_color) => false,
        ColorChoice::Auto
            if is_set(&env.clicolor_force) && env.clicolor_force.as_deref() != Some("0") =>
        {
            true
        }
        ColorChoice::Auto => is_terminal && env.term.as_deref() != Some("dumb"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn env(no_color: &str, clicolor_force: &str, term: &str) -> ColorEnv {
        let value = |text: &str| Some(text.to_owned());
        ColorEnv {
            no_color: value(no_color),
            clicolor_force: value(clicolor_force),
            term: value(term),
        }
    }

    #[test]
    fn flag_outranks_the_environment() {
        assert!(use_color(ColorChoice::Always, &env("1", "", "dumb"), false));
        assert!(!use_color(ColorChoice::Never, &env("", "1", "xterm"), true));
    }

    #[test]
    fn no_color_outranks_clicolor_force_unless_it_is_empty() {
        assert!(!use_color(ColorChoice::Auto, &env("1", "1", "xterm"), true));
        assert!(use_color(ColorChoice::Auto, &env("", "1", "xterm"), false));
    }

    #[test]
    fn clicolor_force_of_zero_forces_nothing() {
        assert!(!use_color(ColorChoice::Auto, &env("", "0", "xterm"), false));
        assert!(use_color(ColorChoice::Auto, &env("", "0", "xterm"), true));
    }

    #[test]
    fn only_a_terminal_that_knows_colours_gets_them_unasked() {
        assert!(use_color(ColorChoice::Auto, &ColorEnv::default(), true));
        assert!(!use_color(ColorChoice::Auto, &ColorEnv::default(), false));
        assert!(!use_color(ColorChoice::Auto, &env("", "", "dumb"), true));
    }
}
