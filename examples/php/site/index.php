<?php
// A guest book in a file: a query, a form, a session, and what the server says of the request.
const BOOK = '/data/book.txt';

session_start();
$_SESSION['visits'] = ($_SESSION['visits'] ?? 0) + 1;

function shown(string $text): string
{
    return htmlspecialchars($text, ENT_QUOTES | ENT_SUBSTITUTE, 'UTF-8');
}

if ($_SERVER['REQUEST_METHOD'] === 'POST') {
    $line = trim(preg_replace('/\s+/u', ' ', (string) ($_POST['line'] ?? '')));
    if ($line !== '') {
        // One write at the end of the file: two guests at once do not meet.
        file_put_contents(BOOK, mb_substr($line, 0, 200) . "\n", FILE_APPEND);
    }
    setcookie('signed', '1', ['httponly' => true, 'samesite' => 'Lax']);
    header('Location: ' . $_SERVER['SCRIPT_NAME'], true, 303);
    exit;
}

$name = (string) ($_GET['name'] ?? 'you');
$lines = is_file(BOOK) ? array_slice(file(BOOK, FILE_IGNORE_NEW_LINES), -10) : [];
?>
<!doctype html>
<html lang="en">
<meta charset="utf-8">
<title>PHP on Hostel</title>
<link rel="stylesheet" href="style.css">
<h1>Hello, <?= shown($name) ?>!</h1>
<p>This is visit <?= $_SESSION['visits'] ?> of yours, answered by PHP <?= PHP_VERSION ?>.</p>
<?php if (isset($_COOKIE['signed'])): ?>
<p>You have signed the book. Thank you.</p>
<?php endif ?>
<form method="post"><input name="line" maxlength="200" placeholder="A line for the guest book"> <button>Sign</button></form>
<ul>
<?php foreach (array_reverse($lines) as $line): ?>
  <li><?= shown($line) ?></li>
<?php endforeach ?>
</ul>
<p><a href="about.php/some/path?x=1">What a script is told</a></p>
