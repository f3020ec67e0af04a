package admin

import (
	"bytes"
	"errors"
	"testing"
)

// FuzzEvents: whatever a node sends, the client ends with a Done event or an *Error, and never takes an early end for success (R13).
func FuzzEvents(f *testing.F) {
	f.Add([]byte(`{"message":"x"}` + "\n" + `{"done":true,"promote":{"node":"b","allowed":true}}` + "\n"))
	f.Add([]byte(`{"done":true,"code":"refused","error":"no"}`))
	f.Add([]byte("\n\n{"))
	f.Fuzz(func(t *testing.T, b []byte) {
		end, err := readEvents(bytes.NewReader(b), func(e Event) {
			if e.Done {
				t.Fatal("done event handed out as progress")
			}
		})
		var fault *Error
		if err != nil && !errors.As(err, &fault) {
			t.Fatalf("untyped error %v", err)
		}
		if err == nil && !end.Done {
			t.Fatal("success without a done event")
		}
	})
}
