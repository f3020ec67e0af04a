// Package faultproxy is a TCP proxy that does to connections what networks do to them: delay, a trickle, flipped bits, silence in one direction or both, resets, refusal. A test
// puts one between each pair of nodes and changes what it does while they work.
package faultproxy
