package snapshot

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"reflect"
	"strings"
	"testing"
	"time"

	"github.com/cespare/xxhash/v2"

	"repld/wal"
)

func sample() Manifest {
	return Manifest{
		Format: Format, Cluster: "c1", Group: "default", ID: "a1b2", Position: wal.Position{Epoch: 3, LSN: 1 << 60, Hash: 1 << 63},
		Created: time.Unix(1_800_000_000, 5).UTC(),
		Files:   []File{{"000004.sst", 10, 7}, {"MANIFEST-000001", 0, 8}, {"marker.format-version.000001.024", 3, 9}},
	}
}

// seal wraps a manifest's JSON with its right checksum.
func seal(inner string) []byte {
	b, _ := json.Marshal(envelope{Hash: wal.Hash(xxhash.Sum64String(inner)), Manifest: json.RawMessage(inner)})
	return b
}

func TestManifestRoundTrip(t *testing.T) {
	m := sample()
	b, err := m.Encode()
	if err != nil {
		t.Fatal(err)
	}
	got, err := DecodeManifest(b)
	if err != nil || !reflect.DeepEqual(got, m) {
		t.Fatalf("%+v, %v, want %+v", got, err, m)
	}
	if got.Bytes() != 13 {
		t.Errorf("Bytes = %d", got.Bytes())
	}
	for i := range b { // every damaged byte is found
		bad := bytes.Clone(b)
		bad[i] ^= 1
		if _, err := DecodeManifest(bad); !errors.Is(err, ErrManifest) {
			t.Fatalf("byte %d flipped: %v, want ErrManifest", i, err)
		}
	}
}

func TestManifestRefuses(t *testing.T) {
	good, err := json.Marshal(sample())
	if err != nil {
		t.Fatal(err)
	}
	if _, err := DecodeManifest(seal(string(good))); err != nil {
		t.Fatal(err)
	}
	replace := func(old, new string) []byte {
		s := strings.Replace(string(good), old, new, 1)
		if s == string(good) {
			t.Fatalf("%q is not in %s", old, good)
		}
		return seal(s)
	}
	for name, b := range map[string][]byte{
		"nothing":         nil,
		"no manifest":     []byte(`{}`),
		"null":            []byte(`null`),
		"behind the end":  append(seal(string(good)), ' '),
		"unknown field":   replace(`{"format"`, `{"x":1,"format"`),
		"repeated field":  replace(`"group"`, `"cluster":"c2","group"`),
		"other case":      replace(`"group"`, `"GROUP"`),
		"format":          replace(`"format":1`, `"format":2`),
		"no group":        replace(`"default"`, `""`),
		"id":              replace(`"a1b2"`, `"../a"`),
		"no files":        seal(string(good[:strings.Index(string(good), `"files":`)]) + `"files":[]}`),
		"negative size":   replace(`"size":10`, `"size":-1`),
		"huge size":       replace(`"size":10`, fmt.Sprintf(`"size":%d`, int64(MaxFileBytes)+1)),
		"time zone":       replace(`Z"`, `+00:00"`),
		"duplicate":       replace(`MANIFEST-000001`, `000004.sst`),
		"out of order":    replace(`000004.sst`, `zzz`),
		"too large input": make([]byte, MaxManifestBytes+1),
	} {
		if _, err := DecodeManifest(b); !errors.Is(err, ErrManifest) {
			t.Errorf("%s: %v, want ErrManifest", name, err)
		}
	}
}

// TestNames: what the other side calls a file cannot leave the directory, nor be mistaken for a file of ours.
func TestNames(t *testing.T) {
	for _, name := range []string{
		"", ".", "..", "...", "../x", "/etc/passwd", "a/b", `a\b`, "a b", "a\x00", "ä", "a\n", strings.Repeat("x", maxNameBytes+1),
		ManifestName, lockName, "x" + partSuffix, partSuffix,
	} {
		m := sample()
		m.Files = []File{{Name: name, Size: 1}}
		if _, err := m.Encode(); !errors.Is(err, ErrManifest) {
			t.Errorf("name %q: %v, want ErrManifest", name, err)
		}
		r := NewReceiver(nil, "incoming") // a nil file system: it must not be touched
		if _, err := r.Begin(m); !errors.Is(err, ErrManifest) {
			t.Errorf("name %q: Begin: %v, want ErrManifest", name, err)
		}
	}
	m := sample()
	m.Files = []File{{"a", MaxFileBytes, 0}}
	for i := range 64 {
		m.Files = append(m.Files, File{fmt.Sprintf("b%02d", i), MaxFileBytes, 0})
	}
	if _, err := m.Encode(); !errors.Is(err, ErrManifest) {
		t.Errorf("sum of sizes: %v, want ErrManifest", err)
	}
	m.Files = make([]File, MaxFiles+1)
	if _, err := m.Encode(); !errors.Is(err, ErrManifest) {
		t.Errorf("number of files: %v, want ErrManifest", err)
	}
}

func FuzzDecodeManifest(f *testing.F) {
	b, err := sample().Encode()
	if err != nil {
		f.Fatal(err)
	}
	f.Add(b, false)
	inner, _ := json.Marshal(sample())
	f.Add(inner, true)
	f.Add([]byte(`{"files":[{"name":"../x"}]}`), true)
	f.Fuzz(func(t *testing.T, b []byte, sealed bool) {
		if sealed && json.Valid(b) {
			b = seal(string(b))
		}
		m, err := DecodeManifest(b)
		if err != nil {
			if !errors.Is(err, ErrManifest) {
				t.Fatal(err)
			}
			return
		}
		again, err := m.Encode()
		if err != nil || !bytes.Equal(again, b) {
			t.Fatalf("%s became %s, %v", b, again, err)
		}
		for _, file := range m.Files {
			if strings.ContainsAny(file.Name, `/\`) || strings.Trim(file.Name, ".") == "" {
				t.Fatalf("name %q passed", file.Name)
			}
		}
	})
}
