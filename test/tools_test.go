package test

import (
	"os"
	"testing"
	"time"
)

// waitLong bounds a wait that normally takes a moment.
const waitLong = 60 * time.Second

// needTool skips a test whose tool is not installed. In CI, which installs it, its absence is a failure.
func needTool(t *testing.T, tool, install string) {
	t.Helper()
	if os.Getenv("CI") == "true" {
		t.Fatalf("%s is not installed: %s", tool, install)
	}
	t.Skipf("%s is not installed: %s", tool, install)
}
