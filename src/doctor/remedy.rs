//! How to change something, in the place we are in: on a host, or in which container.

use super::facts::System;

/// Gives the program capabilities.
pub(super) fn capabilities(system: &System, names: &[&str]) -> Vec<String> {
    let each = |prefix: &str, gap: &str| {
        let words: Vec<_> = names.iter().map(|name| format!("{prefix}{name}")).collect();
        words.join(gap)
    };
    match system.container.as_deref() {
        Some("kubernetes") => {
            let list = each("", ", ");
            vec![format!("in the pod: `securityContext: {{ capabilities: {{ add: [{list}] }} }}`")]
        }
        Some(kind) => {
            let run = format!("`{} run {} …`", runner(kind), each("--cap-add ", " "));
            let list = each("cap_", ",").to_lowercase();
            let image =
                format!("in its image: `RUN setcap {list}+ep {}`", system.program.display());
            // Only root has what a container is given; others get it from the file.
            std::iter::once(run).chain((system.uid != 0).then_some(image)).collect()
        }
        None => vec![
            format!(
                "`{}setcap {}+ep {}`, again after each upgrade",
                sudo(system),
                each("cap_", ",").to_lowercase(),
                system.program.display(),
            ),
            format!("in a systemd unit: `AmbientCapabilities={}`", each("CAP_", " ")),
        ],
    }
}

/// Sets a variable of the kernel that each network namespace has its own of.
pub(super) fn net_sysctl(system: &System, name: &str, value: u64) -> Vec<String> {
    match system.container.as_deref() {
        Some("kubernetes") => {
            let list = format!("[{{ name: {name}, value: \"{value}\" }}]");
            vec![format!("in the pod: `securityContext: {{ sysctls: {list} }}`")]
        }
        Some(kind) => vec![format!("`{} run --sysctl {name}={value} …`", runner(kind))],
        None => sysctl(system, name, value),
    }
}

/// Sets a variable of the kernel that there is only one of.
pub(super) fn sysctl(system: &System, name: &str, value: u64) -> Vec<String> {
    if system.container.is_some() {
        return vec![format!("on the host: `sysctl -w {name}={value}`")];
    }
    let file = "/etc/sysctl.d/90-bunpilot.conf";
    vec![
        format!("`{}sysctl -w {name}={value}`", sudo(system)),
        format!("to keep it: `{name} = {value}` in `{file}`"),
    ]
}

/// Raises a limit; `name` as in limits.conf(5), `key` as in systemd.exec(5).
pub(super) fn limit(system: &System, name: &str, key: &str, value: u64) -> Vec<String> {
    match system.container.as_deref() {
        Some("kubernetes") => {
            vec![format!("raise `{key}` of the container runtime on the node to {value}")]
        }
        Some(kind) => {
            vec![format!("`{} run --ulimit {name}={value}:{value} …`", runner(kind))]
        }
        None => {
            // limits.conf(5) counts memory in KiB
            let told = if name == "memlock" { value / 1024 } else { value };
            vec![
                format!("in a systemd unit: `{key}={value}`"),
                format!("for logins: `* - {name} {told}` in `/etc/security/limits.conf`"),
            ]
        }
    }
}

/// What starts a container of this kind.
pub(super) fn runner(container: &str) -> &str {
    if container == "podman" { "podman" } else { "docker" }
}

/// What a command that only root may run begins with.
pub(super) fn sudo(system: &System) -> &'static str {
    if system.uid == 0 { "" } else { "sudo " }
}
