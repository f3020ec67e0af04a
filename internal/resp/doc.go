// Package resp reads requests and writes replies of the Redis protocol, versions 2 and 3. It knows no sockets: bytes go
// into a Reader and commands come out, replies go into a Writer and bytes come out, so that one goroutine can serve many
// connections.
//
// A Reader owns one buffer. Bytes of the peer are read straight into it, and the arguments of all complete commands in it
// (a batch) are slices of it, valid until Release:
//
//	     Release moves this to the front        Space returns this
//	                  |                               |
//	+----------------------------------+---------+----+-------+
//	|  command  |  command  | command  | partial |    free    |
//	+----------------------------------+---------+------------+
//	0                                start      len          cap
//
// Guarantees:
//
//   - A request is parsed once: nothing is scanned again when more bytes arrive, and where a stream is split into reads
//     does not change the commands that come out of it.
//   - Nothing is allocated for what a request merely declares. The buffer is at most twice what was received plus a
//     constant, and each received argument costs at most 64 bytes besides.
//   - Every limit of Limits is checked before the bytes that it is about are waited for.
//   - Errors are those of Redis, word for word. After one, the stream is out of step for good: Next repeats it.
//
// The protocol: https://redis.io/docs/latest/develop/reference/protocol-spec/.
package resp
