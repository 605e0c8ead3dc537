#![doc = include_str!("../../ADAPTER.md")]
