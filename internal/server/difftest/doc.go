// Package difftest compares a server with Redis, reply by reply: it sends the same random commands to both and wants the
// same bytes back. The commands are those on strings, keys, expiry and transactions, over few keys, with odd options, odd
// values and wrong numbers of arguments, alone and in pipelines, over two connections, in RESP2 and RESP3.
//
// What cannot be equal is compared as far as it can be: times to live with a tolerance, KEYS and SCAN without their order,
// RANDOMKEY and HELLO by their kind. Keys expire far from now, or at once, so that the two clocks do not matter.
//
// A failure names the seed, and the commands left after dropping all that the difference does not need.
package difftest
