// Package heartbeat carries the signs of life between nodes, and the polls of candidates, on connections of their own.
//
// # Guarantees
//
//   - Each node sends every other one a heartbeat per interval and gets an answer: the active's are the push, those that a standby sends to
//     the active are the pull. Both say the same (failover.Beat).
//   - A heartbeat waits behind nothing but other heartbeats: its connection carries at most a few hundred bytes an interval, asks the host for low delay
//     (IP_TOS), and may go to an address of its own.
//   - A connection that the other end closed or reset is told at once, and so is a dial that is refused: together they prove that the process is gone.
//   - No write, read or dial lasts longer than the time-out; a connection without answers is replaced.
//
// # Assumptions
//
// Dial and the connections given to Serve have been introduced (the node handshake), so the peer's name is true as far as the transport can tell.
//
// # Wire
//
// A message is length u32 (little endian, at most 64 KiB), then JSON: a request with a number, answered in order by a response with
// the same number.
package heartbeat
