package strict

import "testing"

func TestDecode(t *testing.T) {
	type doc struct {
		A int `json:"a"`
	}
	for text, ok := range map[string]bool{
		`{"a":1}`: true, `{"a":1} ` + "\n": true, `{}`: true,
		`{"a":1,"b":2}`: false, `{"a":1}{"a":1}`: false, `{"a":1} x`: false, `{"a":1`: false, ``: false, `{"a":"x"}`: false,
	} {
		var d doc
		if err := Decode([]byte(text), &d); (err == nil) != ok {
			t.Errorf("%q: %v", text, err)
		}
	}
}
