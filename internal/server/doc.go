// Package server speaks the Redis protocol with clients.
package server
