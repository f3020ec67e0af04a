package archive

import (
	"context"
	"strings"
)

// Place names one archive in a store.
type Place struct{ Cluster, Group string }

// Find lists the archives in a store, by their about.json. It lists all objects there.
func Find(ctx context.Context, url string) ([]Place, error) {
	s, err := OpenStore(url)
	if err != nil {
		return nil, err
	}
	var all []Place
	err = s.List(ctx, "", func(i Info) error {
		if parts := strings.Split(i.Key, "/"); len(parts) == 3 && parts[2] == "about.json" {
			all = append(all, Place{parts[0], parts[1]})
		}
		return nil
	})
	return all, err
}
