// A server in C that knows nothing of bunpilot: `plain PORT [reuse]`, one thread, epoll. No signal
// handler.
#define _GNU_SOURCE
#include <arpa/inet.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <unistd.h>

#define STREAMS 1024
#define BYTES 2048

static char answer[512];
static struct {
    char bytes[BYTES];
    size_t length;
} requests[STREAMS];

// Whether the connection stays open.
static int serve(int stream) {
    char *bytes = requests[stream].bytes;
    size_t *length = &requests[stream].length;
    ssize_t got = read(stream, bytes + *length, BYTES - 1 - *length);
    if (got <= 0) return 0;
    *length += (size_t)got;
    bytes[*length] = 0;
    if (!strstr(bytes, "\r\n\r\n")) return *length < BYTES - 1;
    *length = 0;
    ssize_t size = (ssize_t)strlen(answer);
    return send(stream, answer, (size_t)size, MSG_NOSIGNAL) == size && !strstr(bytes, "Connection: close");
}

int main(int count, char **words) {
    if (count < 2) return 64;
    char body[320];
    int head = snprintf(body, sizeof body, "%d ", getpid());
    for (int i = 0; i < 16; i++) strcpy(body + head + i * 16, "0123456789abcdef");
    snprintf(answer, sizeof answer, "HTTP/1.1 200 OK\r\nContent-Length: %zu\r\n\r\n%s", strlen(body), body);
    int listener = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0), yes = 1;
    setsockopt(listener, SOL_SOCKET, SO_REUSEADDR, &yes, sizeof yes);
    if (count > 2 && !strcmp(words[2], "reuse")) setsockopt(listener, SOL_SOCKET, SO_REUSEPORT, &yes, sizeof yes);
    struct sockaddr_in address = {.sin_family = AF_INET, .sin_port = htons((unsigned short)atoi(words[1]))};
    address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    if (bind(listener, (struct sockaddr *)&address, sizeof address) || listen(listener, 511)) {
        perror("cannot listen");
        return 1;
    }
    int poll = epoll_create1(EPOLL_CLOEXEC);
    struct epoll_event event = {.events = EPOLLIN, .data.fd = listener}, events[64];
    epoll_ctl(poll, EPOLL_CTL_ADD, listener, &event);
    for (;;) {
        int ready = epoll_wait(poll, events, 64, -1);
        for (int i = 0; i < ready; i++) {
            int stream = events[i].data.fd;
            if (stream != listener) {
                if (!serve(stream)) close(stream);
                continue;
            }
            stream = accept4(listener, NULL, NULL, SOCK_CLOEXEC);
            if (stream < 0) continue;
            event.data.fd = stream;
            if (stream < STREAMS) requests[stream].length = 0;
            if (stream >= STREAMS || epoll_ctl(poll, EPOLL_CTL_ADD, stream, &event)) close(stream);
        }
    }
}
