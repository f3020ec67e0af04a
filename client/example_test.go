package client_test

import (
	"context"
	"errors"
	"fmt"
	"log"

	"repld/client"
)

// An application on a node's own host, and the same with Sentinel endpoints.
func ExampleNew() {
	local, err := client.New(client.Options{Addrs: []string{"/run/repld/client.sock", "192.0.2.11:6379", "192.0.2.12:6379"}})
	if err != nil {
		log.Fatal(err)
	}
	defer local.Close()
	remote, err := client.New(client.Options{Sentinels: []string{"192.0.2.11:26379", "192.0.2.12:26379", "192.0.2.13:26379"}, Name: "shop"})
	if err != nil {
		log.Fatal(err)
	}
	defer remote.Close()
}

// A payment must be counted once, whatever happens to the nodes while it is.
func ExampleClient_Do() {
	c, err := client.New(client.Options{Addrs: []string{"192.0.2.11:6379", "192.0.2.12:6379"}})
	if err != nil {
		log.Fatal(err)
	}
	defer c.Close()
	id := client.NewID() // or the payment's own number: keep it until the answer is known
	total, err := c.Do(context.Background(), id, "INCRBY", "account:7", 250)
	switch {
	case errors.Is(err, client.ErrUnknown):
		log.Printf("not known yet; ask again with id %s", id)
	case errors.Is(err, client.ErrNoActive):
		log.Print("nothing was written")
	case err != nil:
		log.Print(err)
	default:
		fmt.Println(total)
	}
}
