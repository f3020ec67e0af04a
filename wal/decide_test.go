package wal

import (
	"strings"
	"testing"

	"github.com/cockroachdb/datadriven"
)

// TestDecide holds R8: recovery's decision, case by case, in testdata/decide.
func TestDecide(t *testing.T) {
	datadriven.RunTest(t, "testdata/decide", func(t *testing.T, d *datadriven.TestData) string {
		tl := tail{Good: Position{Epoch: 1, LSN: 10, Hash: 0xaa}, Found: foundBad}
		for _, arg := range d.CmdArgs {
			switch arg.Key {
			case "found":
				tl.Found = map[string]found{"zero": foundZero, "short": foundShort, "bad": foundBad}[arg.Vals[0]]
			case "never-whole":
				tl.NeverWhole = true
			case "later":
				var lsn uint64
				arg.Scan(t, 0, &lsn)
				tl.Later = &later{File: "3.seg", Offset: 4096, First: LSN(lsn), Last: LSN(lsn) + 1}
			case "same-write":
				tl.Later.SameWrite = true
			case "known":
				var lsn uint64
				arg.Scan(t, 0, &lsn)
				tl.KnownDurable = LSN(lsn)
			case "mark":
				var lsn uint64
				arg.Scan(t, 0, &lsn)
				tl.Mark = &Position{Epoch: 1, LSN: LSN(lsn), Hash: 0xaa}
			case "other-hash":
				tl.Mark.Hash++
			default:
				d.Fatalf(t, "unknown argument %q", arg.Key)
			}
		}
		v := decide(tl)
		out := []string{v.Action.String()}
		if v.Doubt {
			out = append(out, "doubt")
		}
		if v.Proof != "" {
			out = append(out, v.Proof)
		}
		return strings.Join(out, ": ") + "\n"
	})
}
