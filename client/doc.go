// Package client is a Go client of repld that finds the active by itself and retries what is safe.
//
//	             addresses (unix, TCP)   Sentinel endpoints
//	                       └─────────┬──────────┘
//	Read ─┐                          ▼
//	Write ─┼──► find: ask all, REPLD.EPOCH ──► the active with the highest epoch ──► command ──► answer
//	Do ────┘         ▲                                                                  │
//	                 └── refused, unreachable: nothing was executed ── retry ◄──────────┤
//	                                                    outcome unknown ◄───────────────┘
//
// # Guarantees
//
//   - A command is sent only to a node that says it is the active in an epoch not below the highest that this Client has seen, and each connection tells the
//     node that epoch: a stale active, which others have replaced already, is refused by its own clients.
//   - Read may be sent several times; Write is sent again only when it is sure that the first try was not executed: the node refused it, or could not be
//     reached. Otherwise it ends with ErrUnknown: never with success, never with an error that means "not done".
//   - Do executes a write at most once, whatever it takes to have it answered: the node keeps the result under the id in the same record as the effects, for
//     Options.Retention, and a repetition on any later active is answered from there. ErrUnknown comes only when the context or the retention ends first.
//   - Every call ends with its context, or after Options.Timeout.
//
// # Assumptions
//
// Ids are unique (NewID makes such) and belong to one command. The clock of the active is about right: the retention is counted on it.
package client
