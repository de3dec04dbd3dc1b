// A server in Go that knows nothing of bunpilot: `plain PORT`. No signal handler.
package main

import (
	"fmt"
	"log"
	"net/http"
	"os"
	"strings"
)

func main() {
	body := fmt.Sprintf("%d %s", os.Getpid(), strings.Repeat("0123456789abcdef", 16))
	http.HandleFunc("/", func(answer http.ResponseWriter, _ *http.Request) { fmt.Fprint(answer, body) })
	log.Fatal(http.ListenAndServe("127.0.0.1:"+os.Args[1], nil))
}
