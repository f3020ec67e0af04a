// Package mutants is a list of deliberate mistakes in the code that ships, each one a few words of it changed, and of who has to notice: the score of the tests.
//
//	make mutants                            all of them: caught / planted, and by which layer
//	make mutants MUTANTS='-run commit'      those whose names match
//	go run ./tools/mutants -for 80s         others each day, as many as begin in that time: what CI does
//	go test ./test/mutants                  every mistake still fits the code
//
// A mistake is a search and a replacement. It reaches the compiler through `go test -overlay`, as a changed copy of one file in a temporary directory: the
// code itself never holds it, no build tag turns it on, and nothing that is built in any other way can contain it.
//
// Each mistake names the layers that should catch it, the nearest first: the tests that are there for it, then tests of whole nodes and clusters. It is caught when one of
// them fails, fails a second time, and passes on the code as it is; so a test that a busy machine upsets has caught nothing. That tests do not end counts only for mistakes which are known to
// stop everything. A mistake that does not compile, that the compiler removes, or whose search text is not exactly once in its file, is an error: whoever changes that code
// changes the mistake with it.
//
// Critical are those that lose an acked write, let two nodes commit, or let copies differ, by themselves, after one fault that the rules cover.
package mutants
