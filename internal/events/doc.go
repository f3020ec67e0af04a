// Package events keeps a node's journal: what happened to it, in its own words, for the person who asks afterwards.
//
// The journal answers "why did it fail over last night", so it outlives restarts and stays small. It is no part of the node's safety: nothing waits for
// it, nothing is decided by it, and a disk that refuses it raises an alarm and stops nothing.
//
// Guarantees:
//
//   - Record never waits for a disk or a lock that is held during I/O. Events beyond the queue's limit are dropped and counted; the next line that is
//     written says how many.
//   - Two files of at most MaxBytes each hold the newest events: events.jsonl, and events.old.jsonl, which is replaced when the first one is full.
//   - A line that is damaged (a torn write, a flipped bit, zeros after a power cut) is skipped and counted; lines around it are read.
//   - An event is synced to disk within moments of Record returning, not before: the last ones before a power cut may be missing.
//
// A line is one JSON object, whose last member is the xxhash64 of the text before it, so that any tool for JSON lines reads the journal:
//
//	{"seq":17,"time":"2026-11-24T16:02:11.123456789Z","kind":"role","msg":"role changed","attrs":{"new":"active","old":"candidate"},"sum":"81b2c3d4e5f60718"}
//	└──────────────────────────────────── hashed ──────────────────────────────────────────────────────────────────────────────┘
package events
