// Go's net/http. Tells in each answer how many requests it handled and how many bytes its connections gave it.
package main

import (
	"fmt"
	"net"
	"net/http"
	"sync/atomic"
)

var requests, bytes int64

type listener struct{ net.Listener }

type conn struct{ net.Conn }

func (l listener) Accept() (net.Conn, error) {
	c, err := l.Listener.Accept()
	return conn{c}, err
}

func (c conn) Read(b []byte) (int, error) {
	n, err := c.Conn.Read(b)
	atomic.AddInt64(&bytes, int64(n))
	return n, err
}

func main() {
	http.HandleFunc("/", func(w http.ResponseWriter, r *http.Request) {
		n := atomic.AddInt64(&requests, 1)
		fmt.Fprintf(w, "requests %d bytes %d\n", n, atomic.LoadInt64(&bytes))
	})
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		panic(err)
	}
	fmt.Println("port", l.Addr().(*net.TCPAddr).Port)
	panic(http.Serve(listener{l}, nil))
}
