//! The worker SDK in real workers: Node, Bun and Python talk to a parent over a socketpair.

#[cfg(test)]
mod javascript;
#[cfg(test)]
mod python;
#[cfg(test)]
mod runtime;
#[cfg(test)]
mod worker;
