/* A program that has never heard of bunpilot, in C: one thread that blocks in accept(2). */
#include <netinet/in.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

int main(void) {
    struct sockaddr_in at = {.sin_family = AF_INET, .sin_port = htons(atoi(getenv("PORT")))};
    int one = 1, listener = socket(AF_INET, SOCK_STREAM, 0);
    setsockopt(listener, SOL_SOCKET, SO_REUSEADDR, &one, sizeof one);
    if (bind(listener, (struct sockaddr *)&at, sizeof at) < 0 || listen(listener, 128) < 0) {
        perror("cannot listen");
        return 1;
    }
    for (;;) {
        char question[4096], answer[256], body[32];
        int client = accept(listener, NULL, NULL);
        if (client < 0) continue;
        size_t read_bytes = 0;
        while (read_bytes < sizeof question - 1) {
            ssize_t more = read(client, question + read_bytes, sizeof question - 1 - read_bytes);
            if (more <= 0) break;
            question[read_bytes += more] = 0;
            if (strstr(question, "\r\n\r\n")) break;
        }
        snprintf(body, sizeof body, "%d", getpid());
        int length = snprintf(answer, sizeof answer,
                              "HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Length: %zu\r\n\r\n%s",
                              strlen(body), body);
        if (write(client, answer, length) != length) perror("cannot answer");
        close(client);
    }
}
