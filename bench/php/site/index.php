<?php
// A page with a query, a form and cookies: it reads all three, and sets a cookie.
setcookie('seen', (string) (1 + (int) ($_COOKIE['seen'] ?? 0)));
$rows = [];
foreach (['name' => $_GET['name'] ?? '', 'line' => $_POST['line'] ?? '', 'session' => $_COOKIE['session'] ?? ''] as $what => $value) {
    $rows[] = sprintf('<tr><td>%s<td>%s', $what, htmlspecialchars($value));
}
echo "<!doctype html><title>PHP</title><table>\n", implode("\n", $rows), "\n</table>\n";
