// Package mutants is a list of deliberate mistakes in the code that ships, each one a few words of it changed, and of who has to notice: the score of the tests.
//
//	make mutants                            all of them: caught / planted, and by which layer
//	make mutants MUTANTS='-run commit'      those whose names match
//	go test ./test/mutants                  every mistake still fits the code; a sample of them is really planted and caught
//
// A mistake is a search and a replacement. It reaches the compiler through `go test -overlay`, as a changed copy of one file in a temporary directory: the
// code itself never holds it, no build tag turns it on, and nothing that is built in any other way can contain it.
//
// Each mistake names the layers that should catch it, the nearest first: tests of the package, then tests of whole nodes and clusters. A layer catches it when its
// tests fail; that they do not end within the budget counts only for mistakes which are known to stop everything. A mistake that does not compile, or whose search text is not exactly once in its file, is an error: whoever
// changes that code changes the mistake with it.
//
// Critical are those that lose an acked write, let two nodes commit, or let copies differ, by themselves, after one fault that the rules cover.
package mutants
