// Go's net/http. Tells in each answer how many requests it handled and how many bytes its connections gave it.
// With an address, a proxy of TCP that passes connections on to it. With `files` and a directory, its files.
package main

import (
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
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

// io.Copy splices from one TCP connection to another.
func pass(from net.Conn, address string) {
	defer from.Close()
	to, err := net.Dial("tcp", address)
	if err != nil {
		return
	}
	defer to.Close()
	go func() {
		io.Copy(from, to)
		from.Close()
	}()
	io.Copy(to, from)
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
	if len(os.Args) == 1 {
		panic(http.Serve(listener{l}, nil))
	}
	if os.Args[1] == "files" {
		panic(http.Serve(listener{l}, http.FileServer(http.Dir(os.Args[2]))))
	}
	for {
		c, err := l.Accept()
		if err != nil {
			panic(err)
		}
		go pass(c, os.Args[1])
	}
}
