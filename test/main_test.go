package test

import (
	"os"
	"testing"

	"github.com/redis/go-redis/v9"
	"github.com/redis/go-redis/v9/logging"

	"repld/test/cluster"
)

func TestMain(m *testing.M) {
	redis.SetLogger(&logging.VoidLogger{}) // clients of killed nodes have much to say
	code := m.Run()
	cluster.Cleanup()
	os.Exit(code)
}
