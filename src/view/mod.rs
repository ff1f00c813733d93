//! Plans, reports and events as text, JSON and progress bars.
