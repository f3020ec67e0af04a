// Package test holds the suites that drive whole clusters, in process and with the real binaries, and the tests of the house rules.
package test
